"""Durable state: databases, the receipt book, vouchers, transaction intents."""
