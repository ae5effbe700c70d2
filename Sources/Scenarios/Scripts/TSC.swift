internal import ABIChecker
internal import KVM

extension Scenario {
  /// TSCOFFSET-CONTINUES: one vCPU; then two, which keep the master clock as soon as both have the same offset.
  @Sendable static func tscOffset(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    guard try stage.hasTSCOffset(0) else {
      return stage.lacks("KVM_VCPU_TSC_OFFSET", "KVM_HAS_DEVICE_ATTR says no")
    }
    func move(_ vcpu: Int, _ cycles: UInt64) throws -> Bool {
      let works = try stage.setTSCOffset(vcpu, cycles)
      try stage.enter(vcpu)
      try stage.read(vcpu)
      return works
    }
    for cycles in [0, 1 << 63, UInt64.max, stage.random.next()] {
      try stage.renew(0)
      guard try move(0, cycles) else { return }
    }
    try stage.makeMachine()
    for _ in 0..<2 {
      for vcpu in [0, 1] { try stage.register(vcpu) }
    }
    for cycles in [stage.random.next(), stage.random.next()] {
      for vcpu in [0, 1] {
        try stage.renew(vcpu)
        _ = try move(vcpu, cycles)
        // The other one's record follows at its next entry.
        for vcpu in [0, 1] { try stage.renew(vcpu) }
        try stage.getClock()
      }
    }
    // Both before either enters; then either enters first.
    for first in [1, 0] {
      let cycles = stage.random.next()
      for vcpu in [0, 1] { _ = try stage.setTSCOffset(vcpu, cycles) }
      for vcpu in [first, 1 - first] {
        try stage.enter(vcpu)
        try stage.read(vcpu)
      }
      for _ in 0..<2 {
        for vcpu in [0, 1] { try stage.renew(vcpu) }
      }
    }
    // With vCPU 0 elsewhere, there is no master clock.
    _ = try move(0, stage.random.next())
    try stage.renew(0)
    _ = try move(0, stage.random.next())
    try stage.renew(0)
  }

  /// TSC-HOSTWRITE-CONTINUES, TSC-GUESTWRITE-CONTINUES: values hours away, so that no write can mean the TSC as it is.
  @Sendable static func tscWrite(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    func moveByHost(_ vcpu: Int, _ value: UInt64) throws {
      try stage.hostWriteMSR(vcpu, MSR.tsc, value)
      try stage.enter(vcpu)
      try stage.read(vcpu)
    }
    let far: UInt64 = 1 << 60
    for value in [far, 1 << 45, far + (stage.random.next() >> 8)] {
      try stage.renew(0)
      try moveByHost(0, value)
    }
    let seeded = far / 2 + (stage.random.next() >> 8)
    for value in [seeded, 1_000_000_000, far] {
      try stage.renew(0)
      try stage.writeMSRAndRead(0, MSR.tsc, value)
      // Until KVM makes a new record, this is what the guest goes on with.
      try stage.read(0)
    }
    try stage.renew(0)
    try stage.makeMachine()
    for _ in 0..<2 {
      for vcpu in [0, 1] { try stage.register(vcpu) }
    }
    for vcpu in [0, 1] {
      try stage.renew(vcpu)
      try moveByHost(vcpu, 1 << 52)
      for vcpu in [0, 1] { try stage.renew(vcpu) }
      try stage.getClock()
    }
    try moveByHost(0, 1 << 58)
    try stage.renew(0)
    try moveByHost(0, 1 << 46)
    try stage.renew(0)
  }

  /// TSCADJ-GUESTWRITE-CONTINUES, TSCADJ-HOSTWRITE-NOMOVE: hours forward and back.
  @Sendable static func tscAdjust(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    let hours: UInt64 = 1 << 45
    for value in [hours, 0 &- hours, (stage.random.next() >> 4) | hours, 0] {
      try stage.renew(0)
      try stage.hostWriteMSR(0, MSR.tscAdjust, value)
      _ = try stage.hostReadMSR(0, MSR.tscAdjust)
      try stage.enter(0)
      try stage.read(0)
    }
    for value in [hours, 0 &- hours, (stage.random.next() >> 4) | hours, 0] {
      try stage.renew(0)
      try stage.writeMSRAndRead(0, MSR.tscAdjust, value)
      try stage.readMSR(0, MSR.tscAdjust)
      try stage.read(0)
    }
    try stage.renew(0)
  }

  /// TSC-EVERY-WAY-MOVES: each way once, hours away.
  @Sendable static func tscWays(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    let hours: UInt64 = 1 << 45
    try stage.renew(0)
    if try stage.hasTSCOffset(0) {
      try stage.setTSCOffset(0, hours &+ stage.random.next() >> 24)
      try stage.enter(0)
      try stage.read(0)
      try stage.renew(0)
    }
    try stage.hostWriteMSR(0, MSR.tsc, hours << 4 &+ stage.random.next() >> 24)
    try stage.enter(0)
    try stage.read(0)
    try stage.renew(0)
    try stage.writeMSRAndRead(0, MSR.tsc, hours << 8 &+ stage.random.next() >> 24)
    try stage.renew(0)
    try stage.writeMSRAndRead(0, MSR.tscAdjust, hours << 2)
    try stage.renew(0)
  }

  /// TSCKHZ-*: within the tolerance, below the host's frequency, above it, and for a whole VM.
  @Sendable static func tscFrequency(_ stage: Stage) throws {
    if let tolerance = HostNames.tscTolerance() {
      stage.note(.capability(name: "tsc_tolerance_ppm", value: tolerance))
    }
    try stage.makeMachine(vcpus: [0])
    let host = try stage.noteTSCFrequency(0)
    try stage.register(0)
    for ppm in [100, -100, 231, -231] {
      try stage.setTSCFrequency(0, UInt32(clamping: Int(host) + Int(host) * ppm / 1_000_000))
      try stage.register(0)
      try stage.sleep(milliseconds: 4)
      for _ in 0..<2 { try stage.read(0) }
    }
    try stage.makeMachine(vcpus: [0])
    try stage.noteTSCFrequency(0)
    try stage.setTSCFrequency(0, host / 2)
    try upscale(stage, to: host.multipliedReportingOverflow(by: 2).partialValue)
    try setOfVM(stage, host + host / 10_000)
  }

  private static func upscale(_ stage: Stage, to kHz: UInt32) throws {
    guard try stage.noteCapability(.tscControl) == 0 else { return }
    try stage.makeMachine(vcpus: [0])
    try stage.noteTSCFrequency(0)
    try stage.register(0)
    try stage.setTSCFrequency(0, kHz)
    try stage.register(0)
    for _ in 0..<2 {
      try stage.getClock()
      try stage.read(0)
      try stage.getClock()
      try stage.sleep(milliseconds: 5)
    }
    try stage.read(0)
  }

  private static func setOfVM(_ stage: Stage, _ kHz: UInt32) throws {
    guard try stage.noteCapability(.vmTSCControl) > 0 else { return }
    try stage.makeMachine(vcpus: [])
    stage.setTSCFrequencyOfVM(kHz)
    try stage.addVCPU(0)
    try stage.noteTSCFrequency(0)
    stage.setTSCFrequencyOfVM(kHz)
  }
}
