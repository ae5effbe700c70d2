internal import ABIChecker

extension Scenario {
  /// STABLE-OLDMSR-VCPU0-CLEARS, OLDMSR-KEEPS-TIME, STABLE-NEWMSR-RESTORES: vCPU 0 goes to the old MSR and back, twice.
  @Sendable static func oldMSR(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try settle(stage)
    for msr in [MSR.systemTimeOld, MSR.systemTime, MSR.systemTimeOld, MSR.systemTime] {
      for vcpu in [0, 1] { try stage.read(vcpu) }
      try stage.sleep(milliseconds: 5)
      try stage.register(0, msr)
      try settle(stage)
    }
  }

  /// STABLE-OLDMSR-VCPU1-NOEFFECT: beside vCPU 0, and in a machine where vCPU 1 comes first.
  @Sendable static func oldMSRElsewhere(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try settle(stage)
    try stage.register(1, MSR.systemTimeOld)
    try settle(stage)

    try stage.makeMachine(vcpus: [1])
    try stage.register(1, MSR.systemTimeOld)
    try settle(stage)
    try stage.addVCPU(0)
    try stage.register(0)
    try stage.register(1, MSR.systemTimeOld)
    try settle(stage)
  }

  /// Everybody enters twice, so that what one entry asked of another vCPU is served; then the host looks.
  static func settle(_ stage: Stage) throws {
    for _ in 0..<2 {
      for vcpu in stage.machine.vcpus { try stage.enter(vcpu) }
    }
    for vcpu in stage.machine.vcpus { stage.look(vcpu) }
    try stage.getClock()
  }
}
