"""`make demo`: seven promises of the product, each kept before your eyes in a minute, on the parts that run in earnest.

A story that cannot fail proves nothing: `make demo SABOTAGE=STEP` breaks one step in a way in which it could really
break, and the story must end there, with what was expected and what was seen.
"""
