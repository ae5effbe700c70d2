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

  @Test func eachRequestIsNeeded() throws {
    var history = Script.history(of: .returnValues)
    history.events.removeAll { $0.action == .returned(request: "KVM_SET_CLOCK", result: 0) }
    try expectNotTested(Self.rule, history, "KVM_SET_CLOCK")
  }
}
