//go:build race

package main

// thin is of how many hostile requests one is made: the race detector makes all things slow, and looks for something else.
const thin = 25
