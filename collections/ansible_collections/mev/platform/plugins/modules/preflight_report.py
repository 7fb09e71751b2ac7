# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
# The work is done by the action plugin of the same name; this file documents it.

DOCUMENTATION = r"""
---
module: preflight_report
short_description: Write one report of all hosts' checklists, on the controller
version_added: 0.4.0
description:
  - Adds the attestations to the hosts' items, and writes the whole as JSON and as one self-contained HTML
    page, both under the time in UTC and as C(latest). Files appear whole or not at all.
  - Never reports a change, and writes in check mode too, because the report is no state of a host.
options:
  environment:
    description: V(production), V(staging) or V(local).
    type: str
    required: true
  hosts:
    description: The items of each host, as the filter P(mev.platform.preflight_items#filter) makes them.
    type: dict
    required: true
  hosts_left_out:
    description: How many hosts of the inventory this run was not asked about.
    type: int
    default: 0
  attestations_file:
    description: YAML file on the controller with a list C(attestations). Empty for none.
    type: path
  severity:
    description: Items that shall V(fail) or V(warn) whatever the environment.
    type: dict
    default: {}
  directory:
    description: Directory on the controller. It is made when it is missing.
    type: path
    required: true
  template:
    description: Jinja template of the page.
    type: path
    required: true
author:
  - The MEV platform's authors
"""

EXAMPLES = r"""
- name: Write the report
  mev.platform.preflight_report:
    environment: staging
    hosts: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'items'))) }}"
    directory: reports/preflight/staging
    template: "{{ role_path }}/templates/report.html.j2"
  run_once: true
"""

RETURN = r"""
counts:
  description: How many items have each result.
  returned: always
  type: dict
failures:
  description: One sentence for each failure of each host.
  returned: always
  type: list
  elements: str
table:
  description: What needs attention, for a terminal.
  returned: always
  type: str
files:
  description: What was written.
  returned: always
  type: list
  elements: str
page:
  description: The newest page.
  returned: always
  type: str
"""
