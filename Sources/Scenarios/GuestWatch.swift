internal import ABIChecker
internal import VMBuilder

/// Ends a run on a host where no guest runs: each scenario would wait for its guest in vain, for an hour in all.
struct GuestWatch {
  /// A run ends after so many scenarios in a row whose guest did not come back.
  private static let limit = 3
  /// Fewer where KVM_RUN can't even be interrupted: each costs a CPU, and the next one takes longer.
  private static let threadLimit = 2
  private static let tries = 2

  /// Why no guest runs, once that is known.
  private(set) var reason: String?
  private var inVain = 0
  private var lostThreads = 0

  /// Has a guest do nothing and then register its clock, and tries once more if it does not come back.
  ///
  /// A vCPU that no kick takes out of the kernel keeps a CPU busy for good: there is no second try beside that.
  /// A machine that can't be made says nothing of guests: the scenarios say what was refused.
  mutating func probe(_ suite: Suite) {
    for attempt in 1...Self.tries {
      let stage = suite.stage(named: "probe", attempt: attempt)
      guard (try? stage.makeMachine(vcpus: [0])) != nil else { return }
      do {
        try stage.enter(0)
        try stage.writeMSR(0, MSR.systemTime, stage.placeRecord(of: 0) | 1)
        return
      } catch MachineError.cancelled {
        return
      } catch {
        let isLost = (error as? MachineError)?.isLostThread ?? false
        guard attempt == Self.tries || isLost else { continue }
        let tries = attempt == 1 ? "1 try" : "\(attempt) tries"
        reason = "\(error), in \(tries) of a guest that registers its clock"
        return
      }
    }
  }

  /// Takes note of how a scenario ended.
  mutating func saw(_ runs: ScenarioRuns) {
    guard let lost = runs.lostGuest else {
      inVain = 0
      lostThreads = 0
      return
    }
    inVain += 1
    if lost.isLostThread { lostThreads += 1 }
    guard inVain == Self.limit || lostThreads == Self.threadLimit else { return }
    reason = "\(lost), and so in \(inVain) scenarios in a row"
  }
}

extension MachineError {
  var isLostThread: Bool { if case .threadLost = self { true } else { false } }

  /// Whether KVM_RUN did not come back by itself, or did not enter the guest.
  var isLostGuest: Bool {
    switch self {
    case .deadlinePassed, .threadLost, .guestStopped(_, .failEntry, _): true
    default: false
    }
  }
}
