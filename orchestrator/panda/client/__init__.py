"""How PanDA is spoken to.

* `token` and `address`: as whom, and where
* `api`, on `calls`, gives `rows`: what is asked over HTTP
* `sending`: one submission is one `process` of PanDA's own client, and `verdict` says what it came to
"""
