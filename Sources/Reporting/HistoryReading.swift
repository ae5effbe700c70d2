public import ABIChecker
internal import FoundationEssentials

/// A history that was read from a file.
public struct SavedHistory: Sendable {
  public var path: String
  /// What the file held, up to the line that is cut off, if one is.
  public var history: History
  /// Says where the file is cut off; nil if it is whole.
  public var truncated: String?

  /// What is to be judged: a recording that breaks off can prove a rule broken, but not that it holds.
  public var judged: History {
    guard let truncated else { return history }
    var cut = history
    let end = cut.events.last?.ended ?? Instant(tsc: 0, raw: 0)
    cut.events.append(
      Event(
        number: cut.events.count + 1, actor: .host, began: end, ended: end,
        action: .failed(reason: truncated)))
    return cut
  }
}

extension SavedHistory {
  /// Refuses what no host can have done: it would be blamed for it.
  ///
  /// - Throws: `FileError` naming the file, the line and the reason.
  public func requirePossible() throws(FileError) {
    guard let impossible = history.impossibility else { return }
    throw FileError(
      .badData, path: path, line: impossible.event + 1,
      cause: "this cannot have happened: \(impossible.reason)")
  }
}

extension HistoryFile {
  public static let mostEvents = 1_000_000

  /// Reads a history line by line, and trusts nothing in it.
  ///
  /// - Throws: `FileError` naming the file, the line and what is wrong there.
  public static func read(_ path: String) throws(FileError) -> SavedHistory {
    var reader = try LineReader(path)
    guard let first = try reader.next() else {
      throw FileError(.badData, path: path, cause: "the file is empty")
    }
    let decoder = LineDecoder(path: path)
    let header = try decoder.header(first)
    var saved = SavedHistory(path: path, history: History(header: header))
    var end: HistoryEnd?
    while let line = try reader.next() {
      guard end == nil else { throw decoder.error(line, "a line follows the end of the history") }
      if line.bytes.starts(with: HistoryEnd.start), line.isEnded {
        end = try decoder.end(line, after: saved.history.events.count)
        continue
      }
      guard saved.history.events.count < mostEvents else {
        throw decoder.error(line, "more than \(mostEvents) events, the most that is read")
      }
      if !line.isEnded { saved.truncated = "\(path) is cut off in line \(line.number)" }
      var line = line
      if header.version < Header.firstVersionWithRun { line.bytes = Action.renewed(line.bytes) }
      do throws(FileError) {
        saved.history.events.append(try decoder.event(line))
      } catch {
        guard saved.truncated != nil else { throw error }
      }
    }
    if end == nil, saved.truncated == nil, header.version >= Header.firstVersionWithEnd {
      saved.truncated = "\(path) is cut off after event \(saved.history.events.count)"
    }
    return saved
  }
}

/// Turns lines into values, and what a decoder throws into a sentence.
private struct LineDecoder {
  let path: String
  private let decoder = JSONDecoder()

  init(path: String) { self.path = path }

  /// What every version of the format begins with.
  private struct Preamble: Decodable {
    var format: String
    var version: Int
  }

  func header(_ line: LineReader.Line) throws(FileError) -> Header {
    let preamble: Preamble
    do throws(FileError) { preamble = try decode(line) } catch {
      throw self.error(line, "not the header of a history of kvmclock: \(error.cause)")
    }
    guard preamble.format == Header.formatName else {
      throw error(
        line,
        "the format is \"\(Plain.oneLine(preamble.format, limit: 60))\", "
          + "not \"\(Header.formatName)\"")
    }
    guard preamble.version <= Header.currentVersion else {
      throw error(
        line,
        "written by a newer kvmclock (format version \(preamble.version), "
          + "this one reads up to \(Header.currentVersion)): update kvmclock")
    }
    guard preamble.version >= 1 else {
      throw error(line, "there is no version \(preamble.version) of the format")
    }
    return try decode(line)
  }

  func event(_ line: LineReader.Line) throws(FileError) -> Event {
    let event: Event = try decode(line)
    guard event.number == line.number - 1 else {
      throw error(
        line,
        "the event's number is \(event.number) where \(line.number - 1) is due: "
          + "lines are missing or out of order")
    }
    return event
  }

  func end(_ line: LineReader.Line, after events: Int) throws(FileError) -> HistoryEnd {
    let end: HistoryEnd = try decode(line)
    guard end.endsAfter == events else {
      throw error(line, "the history ended after \(end.endsAfter) events, and \(events) are there")
    }
    return end
  }

  private func decode<Value: Decodable>(_ line: LineReader.Line) throws(FileError) -> Value {
    guard !line.bytes.isEmpty else { throw error(line, "the line is empty") }
    guard String(validating: line.bytes, as: UTF8.self) != nil else {
      throw error(line, "not UTF-8")
    }
    do {
      return try decoder.decode(Value.self, from: Data(line.bytes))
    } catch {
      throw self.error(line, DecodingProblem.sentence(error))
    }
  }

  func error(_ line: LineReader.Line, _ cause: String) -> FileError {
    FileError(.badData, path: path, line: line.number, cause: Plain.oneLine(cause, limit: 400))
  }
}
