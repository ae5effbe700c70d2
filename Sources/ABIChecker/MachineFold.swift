internal import PVClock

/// The only place that follows a machine through its events: what is registered where, who entered, whose TSC was moved,
/// who holds the newest pair, how the clock was set, and which values of the clock were seen.
struct MachineFold {
  private(set) var machine: MachineState
  private(set) var tscMoves: [TSCMove] = []
  /// Places of loops that read a record that may be from before their vCPU's TSC was moved.
  private(set) var loopsOnOldRecords: Set<Int> = []
  private var vcpus: [Int: VCPUState] = [:]
  private var newest = NewestPair()
  private var givenUp: [UInt64: RecordOwner] = [:]
  private var onlyRegistered: Set<Int> = []
  /// The TSC offset that was set last, and the vCPUs that were given it since another one was set.
  private var sameOffset: (cycles: UInt64, vcpus: Set<Int>)?
  private var openMoves: [Int: OpenMove] = [:]
  /// The vCPUs that the host moved and that did not enter since.
  private var unentered: Set<Int> = []
  private var lastReading: [Int: Observation] = [:]
  private var lead: [Int: Int128] = [:]
  private var pending: [Int: Int128] = [:]
  private var lastPage: [Int: ClockPage] = [:]
  /// Whether a process inside a guest looked: the guest's kernel had registered the record before the history began, and
  /// nobody knows when the host takes a new pair.
  private let isInside: Bool

  /// A move of a TSC that no reading has followed yet.
  private struct OpenMove {
    let before: Observation
    let event: Event
    let wasMovedFirst: Bool
    var isBeforeOthers = false
    var readBack: Hex?
  }

  init(number: Int, epoch: Int, first event: Event, isInside: Bool = false) {
    self.isInside = isInside
    machine = MachineState(number: number, began: event.began, epoch: epoch)
  }

  /// - Parameter epoch: counts the machines and the settings of all clocks.
  mutating func take(_ event: Event, at index: Int, epoch: inout Int) -> Step {
    if case .vcpu(let vcpu) = event.actor { pending[vcpu] = max(pending[vcpu] ?? 0, event.width) }
    let vcpu = event.vcpu
    let before = vcpu.map(state) ?? VCPUState()
    let staleBefore = newest.moves.stale
    machine.mayHaveNewPair = newest.take(event) && !isInside
    follow(event, staleBefore)
    change(event, at: index, &epoch)
    let observations = observe(event, at: index)
    return Step(
      index: index, event: event, machine: machine, vcpu: vcpu, before: before,
      after: vcpu.map(state) ?? VCPUState(), owner: owner(event), observations: observations,
      readingInL2: readingInL2(event, at: index))
  }

  private func state(_ vcpu: Int) -> VCPUState {
    var state = vcpus[vcpu] ?? VCPUState()
    state.holdsNewestPair = newest.isHeld(by: vcpu)
    state.isStale = newest.moves.stale.contains(vcpu)
    state.isTSCOffsetCertain = newest.knowsTSCOffset(of: vcpu)
    return state
  }

  // MARK: State

  private mutating func change(_ event: Event, at index: Int, _ epoch: inout Int) {
    if case .vcpu(let vcpu) = event.actor {
      vcpus[vcpu, default: VCPUState()].lastEntry = event.number
    }
    switch event.action {
    case .vmCreated: machine.creation = event
    case .setClock(let record):
      epoch += 1
      machine.epoch = epoch
      machine.settings += 1
      machine.setting = (index, event, record)
    case .vcpuCreated(let vcpu):
      giveUp(vcpu, .disabled, event)
      vcpus[vcpu] = VCPUState(
        isCreated: true, isLate: machine.hasEntered, isRetuned: machine.isRetuned)
      machine.records[vcpu] = nil
    case .featuresSet(let vcpu, let eax):
      vcpus[vcpu, default: VCPUState()].cpuid = .features(eax.value)
    case .cpuidWithoutKVM(let vcpu): vcpus[vcpu, default: VCPUState()].cpuid = .withoutKVM
    case .featuresEnforced(let vcpu):
      let isSet = vcpus[vcpu].map { $0.cpuid != .unknown } ?? false
      vcpus[vcpu, default: VCPUState()].enforcement = isSet ? .after : .before
    case .tscKHz(let vcpu, let kHz) where !state(vcpu).isRetuned:
      vcpus[vcpu, default: VCPUState()].tscKHz = kHz
    case .setTSCKHz(nil, _, nil): machine.isRetuned = true
    case .setTSCKHz(let vcpu?, _, _):
      vcpus[vcpu, default: VCPUState()].isRetuned = true
      vcpus[vcpu]?.tscKHz = nil
    case .ranL2(let offset): if let vcpu = event.vcpu { vcpus[vcpu]?.l2Offset = offset.value }
    case .leftL2, .booted: if let vcpu = event.vcpu { vcpus[vcpu]?.l2Offset = nil }
    case .page(let vcpu, let address, _) where isInside && machine.records[vcpu] == nil:
      register(address.value | 1, Hex(MSR.systemTime), event)
    case .msrsDenied(let msrs): machine.deniedMSRs = Set(msrs)
    case .slotSet, .slotDeleted, .remapped, .protected: machine.memory.take(event.action)
    case .tscOffset(let vcpu, let cycles), .setTSCOffset(let vcpu, let cycles):
      vcpus[vcpu, default: VCPUState()].tscOffset = cycles
      vcpus[vcpu]?.isTSCOffsetSet = TSCMoves.vcpu(movedBy: event) != nil
    case .replugged(let vcpu, let how):
      let hadRecord = vcpus[vcpu]?.record != nil
      giveUp(vcpu, .reset(how), event)
      vcpus[vcpu, default: VCPUState()].systemTime = nil
      vcpus[vcpu]?.reset = (event, how, hadRecord)
      machine.records[vcpu] = nil
    // A 0 for an MSR that the confined vCPU does not have is taken, and changes nothing.
    case .hostWroteMSR(let vcpu, let msr, 0)
    where MSR.isClock(msr) && state(vcpu).enforcement != nil && !state(vcpu).offers(msr):
      break
    case .wroteMSR(let msr, let value, nil), .hostWroteMSR(_, let msr, let value):
      if MSR.isWallClock(msr) { machine.wallClock = (value, event) }
      if MSR.isSystemTime(msr) { register(value.value, msr, event) }
    default: break
    }
    followOffsets(event)
    machine.vcpus = vcpus.values.count { $0.isCreated }
    machine.registered = onlyRegistered.count
    machine.hasEntered = newest.hasEntered
    machine.inL2 = Set(vcpus.filter { $0.value.l2Offset != nil }.keys)
    machine.isBootVCPUOnOldMSR = newest.isBootVCPUOnOldMSR
    machine.mayBeUnmatched = newest.mayBeUnmatched
    machine.awaitsMovedVCPU = newest.awaitsRetunedVCPU
  }

  private mutating func register(_ value: UInt64, _ msr: Hex, _ event: Event) {
    guard let vcpu = event.vcpu else { return }
    let write = SystemTimeWrite(value: value, msr: msr, event: event)
    if let old = vcpus[vcpu]?.record, old != write.record {
      giveUp(vcpu, write.record == nil ? .disabled : .moved, event)
    }
    vcpus[vcpu, default: VCPUState()].systemTime = write
    vcpus[vcpu]?.reset = nil
    machine.records[vcpu] = write.record == nil ? nil : write
    if let record = write.record {
      for address in givenUp.keys where Self.overlap(address, record) { givenUp[address] = nil }
    }
    if !write.isByHost {
      if write.record != nil, vcpu != 0 || !write.isOldMSR {
        onlyRegistered.insert(vcpu)
      } else {
        onlyRegistered.remove(vcpu)
      }
    }
  }

  private mutating func giveUp(_ vcpu: Int, _ how: RecordOwner.GivenUp, _ event: Event) {
    guard let record = vcpus[vcpu]?.record else { return }
    givenUp[record] = .givenUp(vcpu: vcpu, how: how, write: event)
  }

  private func owner(_ event: Event) -> RecordOwner? {
    guard case .page(_, let address, _) = event.action else { return nil }
    let isLive = machine.records.values.contains {
      $0.record.map { Self.overlap($0, address.value) } ?? false
    }
    return isLive ? .live : givenUp[address.value]
  }

  static func overlap(_ one: UInt64, _ other: UInt64) -> Bool {
    let size = UInt64(ClockPage.size)
    return one &- other < size || other &- one < size
  }

  // MARK: TSC offsets

  private mutating func followOffsets(_ event: Event) {
    switch event.action {
    case .setTSCOffset(let vcpu, let cycles):
      if sameOffset?.cycles != cycles { sameOffset = (cycles, []) }
      sameOffset?.vcpus.insert(vcpu)
      machine.isTSCOffsetSetTwice = machine.tscOffsetSetting?.action == event.action
      machine.tscOffsetSetting = event
    case .vcpuCreated: (sameOffset, machine.tscOffsetSetting) = (nil, nil)
    case .tscOffset: break
    default:
      guard TSCMoves.vcpu(movedBy: event) != nil else { return }
      (sameOffset, machine.tscOffsetSetting) = (nil, nil)
    }
    machine.areTSCOffsetsEqual = machine.tscOffsetSetting == nil ? nil : compareOffsets()
  }

  private func compareOffsets() -> Bool? {
    let created = vcpus.filter(\.value.isCreated)
    guard created.count >= 2, created.keys.allSatisfy(newest.knowsTSCOffset(of:)) else {
      return nil
    }
    let offsets = created.values.map(\.tscOffset)
    guard !offsets.contains(nil) else { return nil }
    if Set(offsets).count > 1 { return false }
    return sameOffset?.vcpus.count == created.count ? true : nil
  }

  // MARK: Moves of the TSC

  /// A move is judged from a reading that was to be trusted to the next reading, if neither another move nor a write of
  /// the system-time MSR, which makes a new record by itself, came between.
  private mutating func follow(_ event: Event, _ stale: Set<Int>) {
    if case .vcpu(let vcpu) = event.actor, unentered.remove(vcpu) != nil {
      openMoves[vcpu]?.isBeforeOthers = !unentered.isEmpty
    }
    readBack(event)
    if event.isSystemTimeWrite, let vcpu = event.vcpu { openMoves[vcpu] = nil }
    guard let vcpu = TSCMoves.vcpu(movedBy: event) else { return }
    openMoves[vcpu] = nil
    unentered.remove(vcpu)
    if !stale.contains(vcpu), let before = lastReading[vcpu] {
      openMoves[vcpu] = OpenMove(before: before, event: event, wasMovedFirst: unentered.isEmpty)
    }
    if event.actor == .host { unentered.insert(vcpu) }
  }

  /// The offset or the MSR that a move wrote, read again.
  private mutating func readBack(_ event: Event) {
    guard let vcpu = event.vcpu, let open = openMoves[vcpu], open.readBack == nil else { return }
    switch (event.action, open.event.action) {
    case (.tscOffset(_, let cycles), .setTSCOffset): openMoves[vcpu]?.readBack = Hex(cycles)
    case (.hostReadMSR(_, let msr, let value), .hostWroteMSR(_, let written, _))
    where msr == written:
      openMoves[vcpu]?.readBack = value
    case (.readMSR(let msr, let value, nil), .wroteMSR(let written, _, _)) where msr == written:
      openMoves[vcpu]?.readBack = value
    default: break
    }
  }

  // MARK: Values of the clock

  private mutating func observe(_ event: Event, at index: Int) -> [Observation] {
    switch event.action {
    case .getClock(let record):
      return [observation(event, index, record.clock, nil, nil, nil, record.isTSCStable)]
    case .page(let vcpu, _, let page):
      see(page, on: vcpu)
      return []
    case .read(_, _, let reading, settled: true): return add(event, index, reading)
    case .looped(_, let result): return add(event, index, result.first, result.last)
    case .raced(_, let owner, let result) where event.actor == .vcpu(owner):
      return add(event, index, result.first, result.last)
    default: return []
    }
  }

  private mutating func readingInL2(_ event: Event, at index: Int) -> Observation? {
    guard case .readInL2(_, let reading, settled: true) = event.action,
      case .vcpu(let vcpu) = event.actor, let offset = state(vcpu).l2Offset
    else { return nil }
    see(reading.page, on: vcpu)
    let tsc = reading.tsc &- offset
    return observation(
      event, index, reading.page.systemTime(atTSC: tsc), vcpu, reading.page, tsc,
      reading.page.flags.contains(.tscStable))
  }

  /// Whatever else the guest writes into its record, a new one has a new pair.
  private mutating func see(_ page: ClockPage, on vcpu: Int) {
    let last = lastPage[vcpu]
    if last?.tscTimestamp != page.tscTimestamp || last?.systemTime != page.systemTime {
      lead[vcpu] = pending[vcpu] ?? 0
    }
    lastPage[vcpu] = page
    pending[vcpu] = 0
  }

  /// Both ends of a loop, in which the record may have changed at any time.
  private mutating func add(
    _ event: Event, _ index: Int, _ first: Reading, _ last: Reading
  ) -> [Observation] {
    let start = add(event, index, first)
    if case .vcpu(let vcpu) = event.actor {
      pending[vcpu] = event.width
      if newest.moves.stale.contains(vcpu) { loopsOnOldRecords.insert(index) }
    }
    return start + add(event, index, last)
  }

  private mutating func add(_ event: Event, _ index: Int, _ reading: Reading) -> [Observation] {
    guard case .vcpu(let vcpu) = event.actor else { return [] }
    see(reading.page, on: vcpu)
    // A guest that ran while the clock was set may have read it before or after.
    if let set = machine.setting?.event, set.ended.raw > event.began.raw { return [] }
    let seen = observation(
      event, index, reading.value, vcpu, reading.page, reading.tsc,
      reading.page.flags.contains(.tscStable))
    if let open = openMoves.removeValue(forKey: vcpu), open.before.epoch == machine.epoch {
      tscMoves.append(
        TSCMove(
          vcpu: vcpu, before: open.before, event: open.event, after: seen,
          isBeforeOthers: open.isBeforeOthers, wasMovedFirst: open.wasMovedFirst,
          readBack: open.readBack))
    }
    guard !newest.moves.stale.contains(vcpu) else { return [] }
    lastReading[vcpu] = seen
    return [seen]
  }

  private func observation(
    _ event: Event, _ index: Int, _ value: UInt64, _ vcpu: Int?, _ page: ClockPage?,
    _ guestTSC: UInt64?, _ isStable: Bool
  ) -> Observation {
    Observation(
      index: index, event: event, value: value, vcpu: vcpu, page: page, guestTSC: guestTSC,
      tscOffset: vcpu.map(state).flatMap { $0.isTSCOffsetCertain ? $0.tscOffset : nil },
      isStable: isStable, lead: isStable ? 0 : vcpu.flatMap { lead[$0] } ?? 0,
      epoch: machine.epoch, machineBegan: machine.began)
  }
}
