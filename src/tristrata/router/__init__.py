"""The router: the front door. It matches requests to miners, checks receipts, signs vouchers, keeps the book."""
