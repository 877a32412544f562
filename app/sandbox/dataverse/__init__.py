"""An emulated Dataverse: enough of the Web API, on a database of its own, to try a broker on.

It reads requests with a parser of its own, so that the broker can be compared with it.
"""
