"""The former path of what runs trees."""
