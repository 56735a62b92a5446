raise AssertionError("nobody may import this")
