package matrix

// Requester is who makes a request. Account is the user whose token it was;
// User is the one it acts as, which differs where an application service or a
// pseudonym speaks.
type Requester struct {
	Account, User UserID
	Device        DeviceID // empty for an application service without a device
	Admin, Guest  bool
}
