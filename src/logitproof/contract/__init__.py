"""What is promised: contract, suites, scopes, waivers, instruction sets, arithmetic, and how it came about."""
