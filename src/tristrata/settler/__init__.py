"""The settler: charges sessions by their vouchers. It belongs to the router's operator and reads its receipt book."""
