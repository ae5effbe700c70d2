import Testing

@testable import ABIChecker

@Suite struct ReturnValueTests {
  static let rule = "IOCTL-RETURNS-ZERO"

  @Test(arguments: ["KVM_GET_CLOCK", "KVM_SET_CLOCK", "KVM_KVMCLOCK_CTRL", "KVM_SET_TSC_KHZ"])
  func anythingElseIsBroken(request: String) throws {
    var history = Script.history(of: .returnValues)
    for at in history.events.indices
    where history.events[at].action == .returned(request: request, result: 0) {
      history.events[at].action = .returned(request: request, result: 1)
    }
    try expectBroken(Self.rule, history, "0 from \(request)", "1")
  }

  @Test(arguments: [nil, "ENOTTY"] as [Errno?])
  func anotherAnswerToAMisuseIsBroken(error: Errno?) throws {
    var history = Script.history(of: .returnValues)
    for at in history.events.indices {
      guard case .refused(let request, let misuse, _) = history.events[at].action else { continue }
      history.events[at].action = .refused(request: request, because: misuse, error: error)
    }
    try expectBroken(
      "IOCTL-REFUSES", history, "EFAULT from KVM_GET_CLOCK", "ENXIO from KVM_HAS_DEVICE_ATTR",
      error.map { "\($0)" } ?? "success")
  }

  @Test func eachRequestIsNeeded() throws {
    var history = Script.history(of: .returnValues)
    history.events.removeAll { $0.action == .returned(request: "KVM_SET_CLOCK", result: 0) }
    try expectNotTested(Self.rule, history, "KVM_SET_CLOCK")
  }
}
