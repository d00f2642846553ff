"""Fixtures that several modules need."""

from tests.integration.browser import chromium as chromium
from tests.integration.browser import open_page as open_page
from tests.integration.launched import launch as launch
