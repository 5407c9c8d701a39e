pip install aipartnerupflow
