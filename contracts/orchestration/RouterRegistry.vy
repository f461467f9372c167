# pragma version 0.4.3
# pragma evm-version prague
"""
@title Not written yet
@license Apache-2.0
"""
