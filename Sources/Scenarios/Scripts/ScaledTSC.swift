internal import ABIChecker
internal import KVM

extension Scenario {
  /// TSCKHZ-KEEPS-TIME, TSCKHZ-MIGRATION, SCALED-*: half the host's frequency, which takes scaling; a third more, which KVM can also give
  /// by moving the TSC on at each entry; and 100 ppm more, which it takes for the host's.
  @Sendable static func scaledTSC(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    let host = try stage.noteTSCFrequency(0)
    let scaling = try stage.noteScaling()
    let movesTSC = try stage.hostMovesTSC(0)
    for kHz in [host / 2, host / 3 * 4, host + host / 10_000] {
      guard try fromTheStart(stage, kHz) else { continue }
      if scaling.ofVM { try ofVM(stage, kHz) }
      try later(stage, kHz, host)
      for (before, after) in [(kHz, kHz), (host, kHz), (kHz, host)] {
        try stage.migrate(from: before, to: after, host: host, withTSC: movesTSC)
      }
    }
  }

  /// Whether the frequency was accepted.
  private static func fromTheStart(_ stage: Stage, _ kHz: UInt32) throws -> Bool {
    try stage.makeMachine()
    for vcpu in [0, 1] {
      guard try stage.setTSCFrequency(vcpu, kHz) else {
        stage.lacks("KVM_SET_TSC_KHZ of \(kHz) kHz", "it is refused")
        return false
      }
    }
    try stage.useClock()
    return true
  }

  private static func ofVM(_ stage: Stage, _ kHz: UInt32) throws {
    try stage.makeMachine(vcpus: [], highest: 1)
    stage.setTSCFrequencyOfVM(kHz)
    for vcpu in [0, 1] {
      try stage.addVCPU(vcpu)
      try stage.noteTSCFrequency(vcpu)
    }
    try stage.useClock()
  }

  private static func later(_ stage: Stage, _ kHz: UInt32, _ host: UInt32) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    for frequency in [kHz, host] {
      for vcpu in [0, 1] { try stage.read(vcpu) }
      for vcpu in [0, 1] { try stage.setTSCFrequency(vcpu, frequency) }
      // What the record says now is all that the guest has, until it writes the MSR again.
      for vcpu in [0, 1] { try stage.read(vcpu) }
      try stage.useClock()
    }
  }
}

extension Stage {
  /// Whether the host says that guests' TSCs are scaled, of a vCPU and of a VM.
  func noteScaling() throws -> (ofVCPU: Bool, ofVM: Bool) {
    guard machine.hasTSCScalingOfItsOwn else {
      return (try noteCapability(.tscControl) > 0, try noteCapability(.vmTSCControl) > 0)
    }
    for capability in [Capability.tscControl, .vmTSCControl] {
      note(.capability(name: capability.description, value: 1))
    }
    return (true, true)
  }

  /// Both vCPUs register, read, are looked at, and read again some milliseconds later; the host sets the clock, and once more.
  func useClock() throws {
    for vcpu in [0, 1, 0] {
      try register(vcpu)
      try noteTSCOffset(vcpu)
    }
    for vcpu in [0, 1] {
      try getClock()
      try read(vcpu)
    }
    for vcpu in [0, 1] { look(vcpu) }
    try getClock()
    for vcpu in [0, 1] { look(vcpu) }
    try sleep(milliseconds: 3)
    try getClock()
    for vcpu in [0, 1] { look(vcpu) }
    for vcpu in [0, 1] { try read(vcpu) }
    try setClock(random.next() >> 8)
    for vcpu in [0, 1, 0, 1] { try read(vcpu) }
    try getClock()
  }

  /// Whether the guest's TSC is where the host writes it.
  ///
  /// Where it is not, KVM, which counts from the value written, gives a vCPU of a raised frequency a record of a TSC that its guest has not
  /// reached, if the vCPU enters late enough.
  func hostMovesTSC(_ vcpu: Int) throws -> Bool {
    let value = try hostReadMSR(vcpu, MSR.tsc) &+ 1 << 45
    try hostWriteMSR(vcpu, MSR.tsc, value)
    return try hostReadMSR(vcpu, MSR.tsc) &- value < 1 << 44
  }

  /// Saves a VM at one frequency and goes on with it in a new one at another, with its TSCs or without.
  func migrate(
    from before: UInt32, to after: UInt32, host: UInt32, withTSC: Bool
  ) throws {
    func makeMachine(at kHz: UInt32) throws {
      try self.makeMachine()
      guard kHz != host else { return }
      for vcpu in [0, 1] { try setTSCFrequency(vcpu, kHz) }
    }
    try makeMachine(at: before)
    for vcpu in [0, 1] { try register(vcpu) }
    for vcpu in [0, 1] { try read(vcpu) }
    try sleep(milliseconds: 3)
    for vcpu in [0, 1] { try read(vcpu) }
    let saved = try save(withTSC: true)
    try makeMachine(at: after)
    machine.memory.write(saved.memory, at: 0)
    records = saved.records
    for vcpu in [0, 1] where withTSC { try hostWriteMSR(vcpu, MSR.tsc, saved.vcpus[vcpu]!.tsc) }
    for vcpu in [0, 1] { try hostWriteMSR(vcpu, MSR.systemTime, saved.vcpus[vcpu]!.systemTime) }
    try setClock(saved.clock.clock)
    for vcpu in [0, 1, 0, 1] { try read(vcpu) }
    try sleep(milliseconds: 3)
    for vcpu in [0, 1] { try read(vcpu) }
    try getClock()
  }
}
