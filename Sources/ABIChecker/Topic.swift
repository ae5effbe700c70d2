/// Rules that concern one thing.
public struct Topic: Sendable {
  public var title: String
  public var rules: [Rule]

  public init(_ title: String, _ rules: [Rule]) {
    self.title = title
    self.rules = rules
  }
}

extension Rule {
  /// Every rule, by topic.
  public static let topics: [Topic] = [
    Topic("What KVM says of itself", discovery + featureEnforcement),
    Topic("Writing the system-time MSR", registration + registrationDetails),
    Topic("The record and the memory behind it", page + memory + postCopy),
    Topic("The version protocol", versions),
    Topic("The time", time + newPair),
    Topic("Readers that race", races),
    Topic("PVCLOCK_TSC_STABLE_BIT and the old MSR", stability + oldMSRDetails + tscMatching),
    Topic("PVCLOCK_GUEST_STOPPED", guestStopped),
    Topic("TSC writes and TSC frequency", tscWrites + tscFrequency + scaledTSC + nested),
    Topic("KVM_GET_CLOCK and KVM_SET_CLOCK", clockIoctls + clockRequests),
    Topic("The same clock under other names", hyperV + xen + clockPairing),
    Topic("The wall clock", wallClock),
    Topic("Life cycle", lifeCycle + hotplug + initReset + migration + manyVCPUs),
    Topic("While vCPUs run", whileRunning),
    Topic("Several VMs", severalVMs),
    Topic("Restore, and the instant that it rests on", restore + restoreState + oneInstant),
    Topic("Guests of 2015", guests),
    Topic("A host that changes", hostChanges),
    Topic("Under a VMM, at any time", vmmAnyTime),
    Topic("A VMM that stops, moves, resets and plugs", vmmStops),
  ]
}
