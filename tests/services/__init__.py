"""Real neighbours for the tests: each class runs one service in private and can break it on purpose.

Nothing here knows pytest. A service says with `missing()` why it cannot run on this machine;
whoever makes the fixtures turns that into a skip.
"""
