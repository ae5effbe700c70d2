internal import PVClock

/// A clock record that a guest or the host read.
struct SeenPage: Sendable {
  let event: Event
  /// The vCPU that the record belongs to.
  let vcpu: Int
  let page: ClockPage
  /// Whether the version was even, and the same before and after.
  let isSettled: Bool
  /// Whether another vCPU's record lies there too, or overlaps it.
  let isShared: Bool
}

extension Timeline {
  /// Every record that was read under one even version, in order. Memory that the guest or the user space has written
  /// since the last registration there is no record.
  var pages: [(event: Event, vcpu: Int, page: ClockPage)] {
    writtenPages.filter(\.isSettled).map { ($0.event, $0.vcpu, $0.page) }
  }

  /// The same, with records whose version stayed odd.
  static func writtenPages(of machines: [MachineRun]) -> [SeenPage] {
    let found = machines.flatMap(\.writtenPages)
    return machines.count == 1 ? found : found.sorted { $0.event.number < $1.event.number }
  }
}

extension MachineRun {
  fileprivate var writtenPages: [SeenPage] {
    var found: [SeenPage] = []
    var overwritten = OverwrittenMemory()
    for step in steps {
      overwritten.take(step)
      for (vcpu, address, page, isSettled) in step.readRecords
      where !Self.untouched.contains(page) && !overwritten.meets(address) {
        found.append(
          SeenPage(
            event: step.event, vcpu: vcpu, page: page, isSettled: isSettled,
            isShared: step.machine.hasOtherRecord(at: address, than: vcpu)))
      }
    }
    return found
  }

  /// Memory as it was before any host wrote a record there.
  private static let untouched: Set<ClockPage> = Set(
    [0, 0xa5].compactMap { ClockPage(bytes: [UInt8](repeating: $0, count: ClockPage.size)) })
}

extension MachineState {
  /// Whether the record of another vCPU than `vcpu` overlaps one at `address`.
  func hasOtherRecord(at address: UInt64, than vcpu: Int) -> Bool {
    records.contains { other, write in
      other != vcpu && write.record.map { MachineFold.overlap($0, address) } ?? false
    }
  }
}

extension Step {
  /// The records that were read in this event, and whose they are.
  fileprivate var readRecords: [(vcpu: Int, address: UInt64, page: ClockPage, isSettled: Bool)] {
    switch (event.action, event.actor) {
    case (.page(let vcpu, let address, let page), _): [(vcpu, address.value, page, true)]
    case (.read(let address, _, let reading, let isSettled), .vcpu(let vcpu)):
      [(owner(of: address.value) ?? vcpu, address.value, reading.page, isSettled)]
    case (.looped(_, let result), .vcpu(let vcpu)):
      ends(
        of: vcpu, result.first, result.last, result.backwards > 0 ? result.worstAfter : nil)
    case (.raced(_, let owner, let result), _):
      ends(
        of: owner, result.first, result.last, result.backwards > 0 ? result.worstAfter : nil)
    // Of a version that tore only the first reading is taken: the other one may be of two updates.
    case (.watched(_, let owner, let address, let result), _):
      result.stretches.map { (owner, address.value, $0.page, true) }
    case (.sampled(let address, let result), .vcpu(let vcpu)):
      result.stretches.map { (vcpu, address.value, $0.page, true) }
        + [(vcpu, address.value, result.last.page, result.isSettled)]
    default: []
    }
  }

  private func ends(
    of vcpu: Int, _ first: Reading, _ last: Reading, _ worst: Reading?
  ) -> [(vcpu: Int, address: UInt64, page: ClockPage, isSettled: Bool)] {
    [first, last, worst].compactMap { reading in
      reading.map { (vcpu, machine.records[vcpu]?.record ?? 0, $0.page, true) }
    }
  }

  /// The vCPU whose record lies at `address`: the one that acted, if it is its own.
  private func owner(of address: UInt64) -> Int? {
    if let vcpu, machine.records[vcpu]?.record == address { return vcpu }
    return machine.records.filter { $0.value.record == address }.keys.min()
  }
}

/// Memory that the guest or the user space wrote, and in which no update is certain since.
private struct OverwrittenMemory {
  private var ranges: [Interval] = []
  /// Records that the host registered, of vCPUs that did not enter since.
  private var awaiting: [Int: Interval] = [:]

  mutating func take(_ step: Step) {
    if step.isEntry, let vcpu = step.vcpu, let record = awaiting.removeValue(forKey: vcpu) {
      remove(record)
    }
    switch step.event.action {
    case .filled(let address, let count, _): add(address.value, Int128(count))
    case .poked(let address, _): add(address.value, 4)
    default: break
    }
    guard let write = step.systemTimeWrite, let vcpu = step.vcpu else { return }
    awaiting[vcpu] = nil
    guard let record = write.record else { return }
    let place = Self.record(at: record)
    if write.isByHost {
      ranges.append(place)
      awaiting[vcpu] = place
    } else {
      remove(place)
    }
  }

  func meets(_ record: UInt64) -> Bool {
    let place = Self.record(at: record)
    return ranges.contains { $0.lower < place.upper && place.lower < $0.upper }
  }

  private mutating func add(_ address: UInt64, _ count: Int128) {
    ranges.append(Interval(Int128(address), Int128(address) + count))
  }

  private mutating func remove(_ place: Interval) {
    ranges.removeAll { $0.lower < place.upper && place.lower < $0.upper }
  }

  private static func record(at address: UInt64) -> Interval {
    Interval(Int128(address), Int128(address) + Int128(ClockPage.size))
  }
}
