"""The former path of the interface of executors."""
