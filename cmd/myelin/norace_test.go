//go:build !race

package main

// thin is of how many hostile requests one is made.
const thin = 1
