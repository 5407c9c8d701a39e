pip install a2a
