internal import ABIChecker

extension Scenario {
  /// STABLE-OLDMSR-VCPU0-CLEARS, OLDMSR-KEEPS-TIME, STABLE-NEWMSR-RESTORES: vCPU 0 goes to the old MSR and back, twice.
  @Sendable static func oldMSR(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try stage.settleAndLook()
    for msr in [MSR.systemTimeOld, MSR.systemTime, MSR.systemTimeOld, MSR.systemTime] {
      for vcpu in [0, 1] { try stage.read(vcpu) }
      try stage.sleep(milliseconds: 5)
      try stage.register(0, msr)
      try stage.settleAndLook()
    }
  }

  /// STABLE-OLDMSR-VCPU1-NOEFFECT: beside vCPU 0, and in a machine where vCPU 1 comes first.
  @Sendable static func oldMSRElsewhere(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try stage.settleAndLook()
    try stage.register(1, MSR.systemTimeOld)
    try stage.settleAndLook()

    try stage.makeMachine(vcpus: [1])
    try stage.register(1, MSR.systemTimeOld)
    try stage.settleAndLook()
    try stage.addVCPU(0)
    try stage.register(0)
    try stage.register(1, MSR.systemTimeOld)
    try stage.settleAndLook()
  }
}
