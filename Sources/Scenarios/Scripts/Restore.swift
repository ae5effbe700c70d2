internal import ABIChecker
internal import KVM
internal import PVClock
internal import VMBuilder

extension Scenario {
  /// RESTORE-TSC-IN-STEP, RESTORE-MASTER-CLOCK, RESTORE-TSC-APART, RESTORE-APART-KEEPS-TIME, RESTORE-PARKED: TSCs that
  /// are restored by KVM_SET_MSRS, one vCPU after the other, hours after boot by the values.
  @Sendable static func restoreTSC(_ stage: Stage) throws {
    let saved = try stage.saveRunningMachine()
    let second = Int64(stage.tscFrequency) * 1000
    // As saved, 0.6 s ahead and behind: one attempt to synchronise. 1.5 s is not.
    for ahead in [0, second * 3 / 5, -second * 3 / 5, second * 3 / 2, -second * 3 / 2] {
      try stage.restore(saved, ahead: [1: ahead])
      try stage.readAndSettle()
      // Written once more, a vCPU does not count for another one.
      try stage.hostWriteMSR(1, MSR.tsc, try stage.hostReadMSR(1, MSR.tsc))
      try stage.readAndSettle()
      guard ahead == 0 else { continue }
      // What QEMU writes to every vCPU at a reset.
      for vcpu in stage.machine.vcpus { try stage.restoreTSC(vcpu, to: 1) }
      for vcpu in stage.machine.vcpus { try stage.enter(vcpu) }
      for vcpu in stage.machine.vcpus { try stage.register(vcpu) }
      try stage.readAndSettle()
      try stage.addVCPU(2)
      try stage.register(2)
      try stage.readAndSettle()
    }
    // One that is plugged hours after boot, by the others' TSCs.
    try stage.restore(saved)
    try stage.readAndSettle()
    try stage.addVCPU(2)
    try stage.register(2)
    try stage.readAndSettle()
    for isRestored in [true, false] {
      try stage.restore(saved, parked: (2, isRestored))
      try stage.readAndSettle(except: 2)
    }
    // Ids are APIC ids: they may have gaps, and with x2APIC they go beyond what a byte holds.
    let identifiers = Int(try stage.host.system.checkExtension(.maxVCPUID))
    try stage.restore(try stage.saveRunningMachine([0, 5, max(254, min(identifiers, 300) - 1)]))
    try stage.readAndSettle()
  }

  /// TSC-FIRST-WRITE-KEPT: values near to the TSC of a vCPU that was just made, and one far from it.
  @Sendable static func firstTSCWrite(_ stage: Stage) throws {
    let near = UInt64(stage.tscFrequency) * 600
    let writes: [(vcpu: Int, value: (UInt64) -> UInt64)] = [
      (0, { $0 &+ near }), (1, { $0 &+ near }), (0, { _ in 1000 }), (0, { $0 &+ 1 << 45 }),
    ]
    for (vcpu, value) in writes {
      try stage.makeMachine()
      let had = try stage.hostReadMSR(vcpu, MSR.tsc)
      try stage.hostWriteMSR(vcpu, MSR.tsc, value(had))
      _ = try stage.hostReadMSR(vcpu, MSR.tsc)
      for each in [0, 1] { try stage.register(each) }
      try stage.read(vcpu)
    }
  }

  /// SETCLOCK-BEFORE-VCPUS: the clock is set, then vCPUs are made; one more while the VM runs.
  @Sendable static func clockBeforeVCPUs(_ stage: Stage) throws {
    let hour: UInt64 = 3_600_000_000_000
    for value in [hour + stage.random.next() >> 20, stage.random.next(), 5 * hour] {
      try stage.makeMachine(vcpus: [], highest: 2)
      try stage.setClock(value)
      try stage.getClock()
      try stage.sleep(milliseconds: 1)
      for vcpu in [0, 1] { try stage.addVCPU(vcpu) }
      try stage.getClock()
      for vcpu in [1, 0] { try stage.register(vcpu) }
      try stage.addVCPU(2)
      try stage.register(2)
      for vcpu in [0, 1, 2] { try stage.read(vcpu) }
      try stage.getClock()
    }
  }

  /// RESTORE-ANY-ORDER, RESTORE-BY-OFFSET, RESTORE-TWICE: one save, and a new VM for each order of what is restored; then two
  /// that live side by side.
  @Sendable static func restoreOrder(_ stage: Stage) throws {
    let saved = try stage.saveRunningMachine()
    let orders: [[Stage.RestoreStep]] = [
      [.clock, .records, .tscs], [.clock, .tscs, .records], [.records, .clock, .tscs],
      [.records, .tscs, .clock], [.tscs, .clock, .records], [.tscs, .records, .clock],
    ]
    for order in orders + [[.records, .clock, .tscs, .cpuid]] {
      try stage.restore(saved, in: order)
      try stage.readAndSettle()
    }
    if try stage.hasTSCOffset(0) {
      for order in orders {
        try stage.restore(saved, in: order.map { $0 == .tscs ? .offsets : $0 })
        try stage.readAndSettle()
      }
    }
    for name in [1, 2] { try stage.restore(saved, named: name) }
    for name in [1, 2, 1] {
      stage.use(name)
      try stage.readAndSettle()
    }
  }
}
