internal import ABIChecker

extension Scenario {
  /// NESTED-RECORD-IS-L1, NESTED-TSC-IS-L1: for each reason for an update, and each way to move the TSC, L2 runs on vCPU 0 with another TSC offset when it
  /// comes, and vCPU 1 goes on beside it.
  @Sendable static func nested(_ stage: Stage) throws {
    try stage.makeMachine()
    let moves = try stage.hasTSCOffset(0)
    func moveTSCs() throws {
      guard moves else { return }
      let cycles = stage.random.next() >> 8
      for vcpu in [0, 1] { try stage.setTSCOffset(vcpu, cycles) }
    }
    for vcpu in [0, 1] { try stage.noteTSC(vcpu) }
    try moveTSCs()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    let reasons: [() throws -> Void] = [
      { try stage.setClock(stage.random.next() >> 8) },
      { try stage.hostWriteMSR(0, MSR.systemTime, stage.records[0]! | 1) },
      { try stage.tellStopped(0) },
      { if moves { try stage.hostWriteMSR(0, MSR.tsc, stage.random.next() >> 8) } },
      moveTSCs,
      { try stage.setClock(stage.random.next() >> 8) },
    ]
    for reason in reasons {
      guard try stage.enterL2(0, tscOffset: stage.random.next()) else { return }
      try stage.readInL2(0)
      try reason()
      try stage.enter(0)
      stage.look(0)
      try stage.lookAtTSC(0)
      try stage.leaveL2(0)
      for vcpu in [0, 1, 0] { try stage.read(vcpu) }
    }
  }
}

extension Stage {
  /// What L2, KVM_GET_MSRS and KVM_VCPU_TSC_OFFSET say of the TSC.
  fileprivate func lookAtTSC(_ vcpu: Int) throws {
    for _ in 0..<2 {
      try readInL2(vcpu)
      _ = try hostReadMSR(vcpu, MSR.tsc)
    }
    try noteTSCOffset(vcpu)
  }
}
