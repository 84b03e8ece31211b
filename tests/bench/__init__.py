# SPDX-License-Identifier: Apache-2.0
"""What tools/bench-cluster is made of: clusters of both systems, measurements, the table and the pictures."""
