internal import PVClock

/// The rate of a guest's TSC that is not the host's, as a processor scales it: by a factor with 48 binary places.
struct GuestTSCRate: Sendable {
  let kHz: UInt32
  private let factor: UInt64
  /// What the records of such a guest say.
  let record: TSCScale

  /// Nil for the host's own frequency, and what is so near to it that it counts as the same: within 250 ppm, as KVM has it.
  init?(kHz: UInt32, host: UInt32) {
    let off = kHz > host ? kHz - host : host - kHz
    guard host > 0, kHz > 0, UInt64(off) * 1_000_000 > UInt64(host) * 250 else { return nil }
    self.kHz = kHz
    factor = UInt64((UInt128(kHz) << 48) / UInt128(host))
    record = TSCScale(tscKHz: kHz)
  }

  /// The guest's TSC, but for its offset, where the host's is this.
  func guestTSC(_ tsc: UInt64) -> UInt64 {
    UInt64(truncatingIfNeeded: (UInt128(tsc) * UInt128(factor)) >> 48)
  }
}

extension VMClock {
  func rate(_ kHz: UInt32?) -> GuestTSCRate? {
    kHz.flatMap { GuestTSCRate(kHz: $0, host: time.tscKHz) }
  }

  /// KVM_SET_TSC_KHZ: a vCPU's TSC counts at another rate from now on. Time goes on, and the record has to fit the new rate.
  mutating func setTSCKHz(_ kHz: UInt32, _ id: Int) {
    let now = now()
    point = now
    vcpus[id]!.scaling = rate(kHz)
    requestRecords()
    deviation.tuned?(&self, id, kHz)
  }
}
