# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
# The work is done by the action plugin of the same name; this file documents it.

DOCUMENTATION = r"""
---
module: check_variables
short_description: Check a host's variables against what the roles promise, before anything changes
version_added: 0.1.0
description:
  - Reads C(meta/argument_specs.yml) and C(meta/limits.yml) of the roles and checks the variables that the
    host was given against them, on the controller, without a connection.
  - Finds what Ansible itself does not find or finds too late, a misspelt public variable, a value out of
    its range, an undefined name inside a value, and reports all of them at once.
  - Values of options marked O(ignore:no_log) are never shown.
options:
  roles:
    description: The roles that will run on this host.
    type: list
    elements: str
    required: true
  roles_path:
    description: The folder that holds all roles. Names are checked against every role found there.
    type: path
    required: true
  shared_prefixes:
    description: Prefixes of public variables that several roles read, such as V(mev).
    type: list
    elements: str
    default: []
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Check the variables of a database host
  mev.platform.check_variables:
    roles: [base, postgresql]
    roles_path: "{{ role_path | dirname }}"
    shared_prefixes: [mev]
"""

RETURN = r"""
problems:
  description: One sentence for each thing that is wrong, naming variable and value.
  returned: when something is wrong
  type: list
  elements: str
  sample: ["postgresql_max_conections: no such variable of postgresql; the closest known name is ..."]
"""
