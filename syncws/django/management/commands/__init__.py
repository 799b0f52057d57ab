"""``manage.py runserver``."""
