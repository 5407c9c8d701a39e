export APFLOW_COMMAND_ALLOW=sleep,sort,wc
apflow run flow report.yaml
apflow tasks why orders
printf 'apples\npears\n' > orders.csv
apflow tasks execute report
