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
    Topic("What KVM says of itself", discovery),
    Topic("Writing the system-time MSR", registration),
    Topic("The record's bytes", page),
    Topic("The version protocol", versions),
    Topic("The time", time),
    Topic("PVCLOCK_TSC_STABLE_BIT and the old MSR", stability),
    Topic("KVM_GET_CLOCK and KVM_SET_CLOCK", clockIoctls),
    Topic("Life cycle", lifeCycle),
    Topic("Guests of 2015", guests),
    Topic("A host that changes", hostChanges),
  ]
}
