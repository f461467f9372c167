"""The words of the network: ids, units, receipts, vouchers, trees, state machines. Pure: no I/O, no clock.

Every actor computes what others must agree on from this package, and the contracts are tested against it.
"""
