"""The tasks and suites that come with Breakeven, each with its data or its Hub data set."""
