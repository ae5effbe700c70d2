internal import ABIChecker
internal import KVM
internal import VMBuilder

extension Scenario {
  /// INIT-CLEARS-SYSTIME, INIT-FREEZES-PAGE, INIT-REREGISTER-KEEPS-TIME: each of two vCPUs resets the other.
  @Sendable static func initReset(_ stage: Stage) throws {
    guard try stage.makeMachineWithIRQChip(for: "INIT between vCPUs") else { return }
    for vcpu in [0, 1] { try stage.register(vcpu) }
    for (sender, target) in [(1, 0), (0, 1)] {
      try stage.read(target)
      try stage.sleep(milliseconds: 2)
      guard try sendINIT(stage, from: sender, to: target) else { return }
      for msr in [MSR.systemTime, MSR.systemTimeOld] { _ = try stage.hostReadMSR(target, msr) }
      try stage.boot(target, .agentLong)
      for msr in [MSR.systemTime, MSR.systemTimeOld] { try stage.readMSR(target, msr) }
      try stage.register(target)
      guard try sendINIT(stage, from: sender, to: target) else { return }
      try stage.boot(target, .agentLong)
      for vcpu in [target, sender] { stage.look(vcpu) }
      try stage.setClock(stage.random.next() >> 8)
      for vcpu in [target, sender] { try stage.enter(vcpu) }
      for vcpu in [target, sender] { stage.look(vcpu) }
      try stage.register(target)
    }
  }
}
