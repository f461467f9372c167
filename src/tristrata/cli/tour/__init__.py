"""The demo's tour: what it does (`guide`), what it writes down (`records`), what it shows (`screen`)."""
