internal import ABIChecker
internal import PVClock

extension Scenario {
  /// SETCLOCK-SETS-ALL-VCPUS: any 64-bit value, forward and backward.
  @Sendable static func setClock(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      try stage.register(vcpu)
    }
    let random = (0..<3).map { _ in stage.random.next() }
    let values: [UInt64] =
      [3_600_000_000_000, 0, 1, 1 << 63, UInt64.max - 2_000, 1_000_000_000] + random
    for (index, value) in values.enumerated() {
      let order = index % 2 == 0 ? [0, 1] : [1, 0]
      try stage.setClock(value)
      for vcpu in order { try stage.read(vcpu) }
      for vcpu in [0, 1, 0] { stage.look(vcpu) }
      try stage.getClock()
      for vcpu in [0, 1] { stage.look(vcpu) }
    }
    // Ids are APIC ids, and those may have gaps.
    let ids = [0, 5, 254]
    try stage.makeMachine(vcpus: ids, highest: 254)
    for vcpu in ids { try stage.register(vcpu) }
    try stage.setClock(stage.random.next() >> 8)
    for vcpu in ids { try stage.read(vcpu) }
  }

  /// RATE-RAW, GETCLOCK-IS-GUEST-VIEW: the same two clocks, a second apart, with nothing done between. What a second does not tell,
  /// because the host is busy or slow, a longer wait may.
  @Sendable static func rate(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    try stage.noteTSC(0)
    try stage.register(0)
    try stage.enter(0)
    try stage.sampleRate()
    try stage.sleep(milliseconds: 1000 * stage.history.header.attempt)
    try stage.sampleRate()
  }
}
