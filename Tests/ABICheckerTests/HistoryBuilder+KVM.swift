import PVClock

@testable import ABIChecker

// What KVM does with its clock, as arch/x86/kvm/x86.c has it, and the ioctls that scenarios use.

extension HistoryBuilder {
  /// Makes a machine with these vCPUs and records its facts.
  mutating func machine(_ ids: Int..., tscOffset: UInt64 = 0 &- 6_999_000_000_000) {
    createMachine()
    for id in ids { createVCPU(id, tscOffset: tscOffset) }
  }

  mutating func createMachine() {
    bracketed(.host) { host in
      (host.vcpus, host.records, host.fills) = ([:], [:], [])
      (host.pair, host.isBootVCPUOnOldMSR, host.constant) = (nil, false, nil)
      host.forcedDifference = nil
      host.wall = SimulatedWallClock(host.wall)
      host.others = SimulatedOtherClocks()
      host.kHzOfNewVCPUs = nil
      (host.tscGeneration, host.generationOffset, host.lastWrittenOffset) = (0, nil, nil)
      host.clockOffset = 0 &- host.time.raw
      host.gate = SimulatedGate()
      host.memory = SimulatedMemory()
      return [.vmCreated]
    }
  }

  mutating func createVCPU(_ id: Int, tscOffset: UInt64 = 0 &- 6_999_000_000_000) {
    let tscOffset = generationOffset ?? tscOffset
    bracketed(.host) { host in
      var vcpu = VCPU(tscOffset: tscOffset)
      vcpu.tscGeneration = host.tscGeneration
      vcpu.scaledKHz = host.kHzOfNewVCPUs
      vcpu.wantsPair =
        (host.pair == nil || host.resnapsOnHotplug) && host.time.source.allowsMasterClock
      host.vcpus[id] = vcpu
      if host.generationOffset != nil { host.lastWrittenOffset = 0 &- host.time.cycles }
      return [.vcpuCreated(vcpu: id)]
    }
    host(.tscKHz(vcpu: id, kHz: kHzOfNewVCPUs ?? SimulatedTime.tscKHz))
    host(.tscOffset(vcpu: id, cycles: tscOffset))
  }

  /// The re-plug as the host does it: MSR cleared, registers reset.
  mutating func replug(_ id: Int, how: Reset = .userSpace) {
    bracketed(.host) { host in
      host.vcpus[id]?.msr = 0
      return [.replugged(vcpu: id, how: how)]
    }
  }

  // MARK: Entry

  mutating func refreshAll() {
    for id in vcpus.keys { vcpus[id]?.wantsRecord = true }
  }

  mutating func takePair() {
    let isMaster =
      time.source.allowsMasterClock && !isBootVCPUOnOldMSR && !offsetsDiffer && !vcpus.isEmpty
    pair = isMaster ? (time.cycles, time.raw) : nil
    others.wantsPage = true
    refreshAll()
  }

  /// An entry: KVM serves what was asked of it.
  mutating func serve(_ id: Int) {
    catchUp(id)
    if vcpus[id]!.wantsPair {
      vcpus[id]?.wantsPair = false
      takePair()
    }
    let moved = pair == nil && movesBetweenCPUs
    guard vcpus[id]!.isRegistered, vcpus[id]!.wantsRecord || moved else { return }
    vcpus[id]?.wantsRecord = false
    let cycles = time.cycles
    time.pass(nanoseconds: 40)
    time.pause()
    publish(cycles: pair?.cycles ?? cycles, base: pair?.base ?? time.raw, on: id)
  }

  private mutating func publish(cycles: UInt64, base: UInt64, on id: Int) {
    guard let address = memory.target(id, at: vcpus[id]!.address) else { return }
    defer { memory.note(address, records[address]!) }
    let old = records[address] ?? ClockPage(version: fills.isEmpty ? 0 : 0xa5a5_a5a5)
    let scale = scale(of: id)
    let flags = flags(after: old, on: id)
    records[address] = ClockPage(
      version: VersionProtocol.updated(old.version), tscTimestamp: guestTSC(cycles, on: id),
      systemTime: base &+ clockOffset, tscToSystemMultiplier: scale.multiplier,
      tscShift: scale.shift, flags: flags)
    others.publish(records[address]!, on: id)
  }

  mutating func write(_ value: UInt64, to msr: UInt32, on id: Int) {
    guard msr == MSR.systemTime || msr == MSR.systemTimeOld else { return }
    vcpus[id]?.msr = value
    memory.register(id, value)
    vcpus[id]?.wantsRecord = true
    let isOld = msr == MSR.systemTimeOld
    if id == 0, isOld != isBootVCPUOnOldMSR {
      isBootVCPUOnOldMSR = isOld
      let wantsPair = time.source.allowsMasterClock
      vcpus[id]?.wantsPair = wantsPair
    }
  }

  // MARK: ioctls

  /// kvmclock now, as `KVM_GET_CLOCK` computes it.
  var clock: UInt64 {
    guard let pair else { return time.raw &+ clockOffset }
    return pair.base &+ clockOffset &+ nanoseconds(from: pair.cycles, to: time.cycles)
  }

  mutating func getClock() {
    bracketed(.host) { host in
      let record =
        host.pair == nil
        ? ClockRecord(clock: host.clock)
        : host.masterClockRecord
      return [.getClock(record)]
    }
  }

  mutating func setClock(_ value: UInt64) {
    bracketed(.host) { host in
      host.restart(at: value)
      return [.setClock(ClockRecord(clock: value))]
    }
  }

  mutating func restart(at value: UInt64) {
    takePair()
    clockOffset = value &- (pair?.base ?? time.raw)
    constant = nil
  }

  mutating func hostReadMSR(_ id: Int, _ msr: UInt32) {
    host(.hostReadMSR(vcpu: id, msr: Hex(msr), value: Hex(vcpus[id]!.msr)))
  }

  // MARK: Guest memory

  mutating func fill(_ start: UInt64, count: UInt64) {
    fills.append((start, count))
    host(.filled(address: Hex(start), count: Int(count), byte: 0xa5))
  }

  /// The host looks at memory that was filled; `change` gets the bytes.
  mutating func dump(_ start: UInt64, count: Int, _ change: (inout [UInt8]) -> Void = { _ in }) {
    var bytes = [UInt8](repeating: 0xa5, count: count)
    for (address, page) in records where address >= start && address + 32 <= start + UInt64(count) {
      let offset = Int(address - start)
      bytes.replaceSubrange(offset..<offset + 32, with: page.bytes)
    }
    for (address, byte) in wall.bytes where address &- start < UInt64(count) {
      bytes[Int(address - start)] = byte
    }
    change(&bytes)
    host(.memory(address: Hex(start), bytes: HexBytes(bytes)))
  }

  mutating func poke(_ address: UInt64, _ version: UInt32) {
    records[address]?.version = version
    host(.poked(address: Hex(address), value: Hex(version)))
  }

  mutating func look(_ id: Int, at address: UInt64? = nil) {
    let address = address ?? vcpus[id]!.address
    host(.page(vcpu: id, address: Hex(address), page: records[key(of: address)] ?? ClockPage()))
  }

  /// A bracket around nothing, as tight as it gets.
  mutating func tick() { host(.tick) }

  // MARK: Loops

  /// A guest that reads in a loop for so long; `change` gets its result.
  mutating func loop(
    _ id: Int, _ guest: String = "schedclock", reads: UInt64 = 50_000, milliseconds: UInt64 = 3,
    _ change: (inout LoopResult) -> Void = { _ in }
  ) {
    together([(id, guest)], reads: reads, milliseconds: milliseconds, change)
  }

  /// Several guests that read side by side.
  mutating func together(
    _ loops: [(id: Int, guest: String)], reads: UInt64, milliseconds: UInt64 = 3,
    _ change: (inout LoopResult) -> Void = { _ in }
  ) {
    let starts = loops.map { id, guest in
      let began = begin()
      serve(id)
      time.pause()
      return (id: id, guest: guest, began: began, first: reading(on: id))
    }
    // A record made without the master clock may run ahead, and so would the constant.
    if constant == nil, pair != nil { constant = starts[0].first.value }
    wait(milliseconds: milliseconds)
    for (id, guest, began, first) in starts {
      if guest == "rewriter" {
        write(vcpus[id]!.msr, to: isBootVCPUOnOldMSR ? MSR.systemTimeOld : MSR.systemTime, on: id)
      }
      serve(id)
      time.pause()
      let isStable = first.page.flags.contains(.tscStable)
      var result = LoopResult(
        reads: reads, backwards: isStable ? 0 : 2, excess: guest == "rewriter" ? 0 : nil,
        worst: isStable ? 0 : -60,
        unstable: isStable ? 0 : reads, versions: guest == "rewriter" ? reads - 1 : 0,
        minimum: Int64(truncatingIfNeeded: difference(first.value, constant ?? first.value)),
        witnessed: guest == "sampler" ? 600 : nil, first: first,
        last: reading(on: id), worstBefore: isStable ? 0 : first.value + 60, worstAfter: first)
      change(&result)
      end(.vcpu(id), began, [.looped(guest: guest, result: result)])
    }
  }
}
