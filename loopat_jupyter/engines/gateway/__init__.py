"""The server's side of the model gateway: how the requests of a sandbox reach the provider.

The egress proxy of a sandbox (``sandboxes/proxy/``) takes the requests; :mod:`.upstream` checks
them, adds the real key and masks it in responses. :mod:`.model_field` finds the model that a
request names, :mod:`.http_pool` and :mod:`.proxy_tunnel` are the connections to the provider.
"""
