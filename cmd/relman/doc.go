// Command relman keeps a web site on a cluster of nodes identical and never
// half-updated. One binary holds everything: the commands of people and of CI,
// the manager, the agent of a node, and a whole cluster for trying it out.
//
// This package holds flags, configuration, output and exit codes, one file per
// verb. What the verbs do is in the packages below it.
package main
