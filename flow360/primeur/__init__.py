"""Primeur, the invented company behind the course: a French online grocer with refrigerated vans.

Nothing heavy is imported here; take what you need from the submodules:
`generate` (tables of any size), `manifest` (what was spoilt on purpose), `seed` and `load` (the committed week),
`day` and `player` (a day of the business, played), `api` (the REST service) and `vans` (their readings over MQTT).
"""
