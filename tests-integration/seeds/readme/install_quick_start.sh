# Minimal installation (core only)
pip install aipartnerupflow

# With all features
pip install aipartnerupflow[all]
