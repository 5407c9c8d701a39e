"""The former path of what SQL stores share."""
