import PVClock

@testable import ABIChecker

// What moves a vCPU's TSC. With `updates` false KVM forgets the record.

extension HistoryBuilder {
  /// A TSC that is to run faster than the host's: KVM moves it on at every entry.
  struct CatchUp {
    var kHz: UInt32
    var from: (tsc: UInt64, raw: UInt64)
    var isFrozen: Bool
  }

  var vcpusMatch: Bool { vcpus.values.allSatisfy { $0.tscGeneration == tscGeneration } }

  /// Whether the vCPUs' TSCs are of different generations, or are taken to be.
  var offsetsDiffer: Bool {
    get { forcedDifference ?? !vcpusMatch }
    set { forcedDifference = newValue }
  }

  /// KVM_VCPU_TSC_OFFSET set and read back.
  mutating func setTSCOffset(
    _ id: Int, _ cycles: UInt64, updates: Bool = true, takesEffect: Bool = true
  ) {
    bracketed(.host) { host in
      let before = host.vcpus[id]!.tscOffset
      host.synchronize(id, cycles, updates)
      if !takesEffect { host.vcpus[id]?.tscOffset = before }
      return [.setTSCOffset(vcpu: id, cycles: cycles)]
    }
    noteOffset(id)
  }

  mutating func hostWriteTSC(_ id: Int, _ value: UInt64, updates: Bool = true) {
    bracketed(.host) { host in
      let written = value &- host.time.cycles
      var offset = written
      if let last = host.lastWrittenOffset, let generation = host.generationOffset,
        value == 0 || abs(difference(written, last)) < host.synchronizingWindow
      {
        offset = generation
      }
      host.synchronize(id, offset, updates)
      host.lastWrittenOffset = written
      return [.hostWroteMSR(vcpu: id, msr: Hex(MSR.tsc), value: Hex(value))]
    }
  }

  mutating func noteOffset(_ id: Int) {
    host(.tscOffset(vcpu: id, cycles: vcpus[id]!.tscOffset))
  }

  private mutating func synchronize(_ id: Int, _ offset: UInt64, _ updates: Bool) {
    if generationOffset == nil || generationOffset != offset { tscGeneration += 1 }
    (generationOffset, lastWrittenOffset) = (offset, offset)
    vcpus[id]?.tscOffset = offset
    vcpus[id]?.tscGeneration = tscGeneration
    guard updates else { return }
    vcpus[id]?.wantsRecord = true
    if time.source.allowsMasterClock { vcpus[id]?.wantsPair = true }
  }

  /// WRMSR of IA32_TSC or IA32_TSC_ADJUST, and a reading without an exit between.
  mutating func guestWriteTSC(_ id: Int, _ msr: UInt32, _ value: UInt64, updates: Bool = true) {
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      host.time.pass(nanoseconds: 100)
      host.time.pause()
      var vcpu = host.vcpus[id]!
      let wanted = msr == MSR.tsc ? value &- host.time.cycles : vcpu.tscOffset &+ value
      let moved = wanted &- vcpu.tscOffset &- (msr == MSR.tsc ? 0 : vcpu.tscAdjust)
      vcpu.tscOffset &+= moved
      vcpu.tscAdjust &+= moved
      vcpu.wantsRecord = vcpu.wantsRecord || updates
      host.vcpus[id] = vcpu
      host.serve(id)
      host.time.pass(nanoseconds: 100)
      host.time.pause()
      return [
        .wroteMSR(msr: Hex(msr), value: Hex(value), fault: nil),
        .read(
          address: Hex(vcpu.address), ring: 0, reading: host.reading(on: id), settled: true),
      ]
    }
  }

  /// KVM_SET_MSRS of IA32_TSC_ADJUST and KVM_GET_MSRS of it.
  mutating func hostWriteAdjust(_ id: Int, _ value: UInt64, moves: Bool = false) {
    bracketed(.host) { host in
      let before = host.vcpus[id]!.tscAdjust
      if moves { host.vcpus[id]?.tscOffset &+= value &- before }
      host.vcpus[id]?.tscAdjust = value
      host.vcpus[id]?.wantsRecord = true
      return [.hostWroteMSR(vcpu: id, msr: Hex(MSR.tscAdjust), value: Hex(value))]
    }
    host(.hostReadMSR(vcpu: id, msr: Hex(MSR.tscAdjust), value: Hex(value)))
  }

  /// KVM_SET_TSC_KHZ and KVM_GET_TSC_KHZ; what is far above the host's frequency makes the TSC catch up.
  mutating func setTSCKHz(
    _ id: Int, _ kHz: UInt32, error: Errno? = nil, thenGets got: UInt32? = nil,
    isFrozen: Bool = false
  ) {
    bracketed(.host) { host in
      if error == nil, kHz > SimulatedTime.tscKHz / 4 * 5 {
        let tsc = host.time.cycles &+ host.vcpus[id]!.tscOffset
        host.vcpus[id]?.catchUp = CatchUp(
          kHz: kHz, from: (tsc, host.time.raw), isFrozen: isFrozen)
      }
      return [.setTSCKHz(vcpu: id, kHz: kHz, error: error)]
    }
    host(.tscKHz(vcpu: id, kHz: got ?? (error == nil ? kHz : SimulatedTime.tscKHz)))
  }

  /// At an entry.
  mutating func catchUp(_ id: Int) {
    guard let own = vcpus[id]?.catchUp, !own.isFrozen else { return }
    let cycles = UInt128(time.raw - own.from.raw) * UInt128(own.kHz) / 1_000_000
    vcpus[id]?.tscOffset = own.from.tsc &+ UInt64(cycles) &- time.cycles
    vcpus[id]?.wantsRecord = true
  }
}
