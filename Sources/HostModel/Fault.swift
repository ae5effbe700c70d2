public import ABIChecker
public import Scenarios

/// One way in which a host can be wrong, and the rules that have to notice.
public struct Fault: Sendable {
  /// What is changed.
  enum Change: Sendable {
    /// The user-space kvmclock does something else than the ABI says.
    case model(Deviation)
    /// Another clock serves the guests.
    case clock(ClockMaker)
  }

  public let id: String
  /// What is wrong, and what it stands for: the kernel commit, if it happened.
  public let meaning: String
  /// The rules that must break; an observation must change its value.
  public let rules: [String]
  /// What breaks besides, and why.
  public let also: [String]
  public let reason: String
  /// How many times its scenarios are run at most until it shows: for what is rare.
  let tries: Int
  let change: Change

  init(
    _ id: String, breaks rules: [String], also: [String] = [], because reason: String = "",
    tries: Int = 1, _ meaning: String, _ change: Change
  ) {
    self.id = id
    self.meaning = meaning
    self.rules = rules
    self.also = also.filter { !rules.contains($0) }
    self.reason = reason
    self.tries = tries
    self.change = change
  }

  /// A deviation of the model.
  init(
    _ id: String, breaks rules: [String], also: [String] = [], because reason: String = "",
    tries: Int = 1, _ meaning: String, _ deviate: (inout Deviation) -> Void
  ) {
    var deviation = Deviation()
    deviate(&deviation)
    self.init(
      id, breaks: rules, also: also, because: reason, tries: tries, meaning, .model(deviation))
  }
}

extension Fault {
  /// What serves the guests' clock with this fault.
  public func maker(_ facts: HostFacts) -> ClockMaker {
    switch change {
    case .model(let deviation):
      .model(facts, .keep, deviation, name: "user-space model with the fault \(id)")
    case .clock(let maker): maker
    }
  }
}

/// A fault in several sizes: how small a one is noticed.
public struct GradedFault: Sendable {
  public let id: String
  public let rules: [String]
  public let meaning: String
  public let unit: String
  /// From large to small.
  public let sizes: [Int]
  /// The size, and all that are larger, that must be caught every time.
  public let mustCatch: Int
  let tries: Int
  let deviate: @Sendable (inout Deviation, Int) -> Void
}
