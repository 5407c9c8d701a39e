"""Webhooks: receivers of the events of runs over HTTP. `webhook` is what is stored, `defaults` registers the
receivers that the settings name, and `delivery` finds the distribution that sends the events.
"""
