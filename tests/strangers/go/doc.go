// Package strangers pins the programs of others that the lab's tests run.
package strangers
