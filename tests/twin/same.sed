# Docker's hint after a refusal, and its client's own log.
/^See '.* run --help'\.$/d
/^time="/d
# What stands before a message.
s/^(docker: |pontoon: )?(Error response from daemon: |Error: |error: )?//
# Ids and times.
s/\b[0-9a-f]{64}\b/ID64/g
s/^[0-9a-f]{12}\b/ID12------ /
s/"Created": "[^"]*"/"Created": "TIME"/
# The name of a container that has none, and its end's id.
s/(on endpoint )[a-z_0-9]+ \(ID64\)/\1NAME (ID64)/
s/\.$//
# Interfaces: the name and the hardware address.
s/^([a-z0-9]+)(@if[0-9]+)? +(UP|UNKNOWN) +([0-9a-f:]+) .*/\1 \4/
