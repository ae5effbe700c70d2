/// A file that could not be read or written: which, what is wrong with it, and what can be done.
public struct FileError: Error, Hashable, Sendable {
  public enum Kind: Hashable, Sendable {
    /// It is not there, or may not be read.
    case unreadable
    /// It was read, and is not a history that this code understands.
    case badData
    case unwritable
  }

  public var kind: Kind
  public var path: String
  /// The line of the file, from 1, if the trouble lies in one.
  public var line: Int?
  public var cause: String
  public var remedy: String?

  public init(
    _ kind: Kind, path: String, line: Int? = nil, cause: String, remedy: String? = nil
  ) {
    self.kind = kind
    self.path = path
    self.line = line
    self.cause = cause
    self.remedy = remedy
  }

  init(_ kind: Kind, path: String, errno: Int32, doing what: String) {
    self.init(
      kind, path: path, cause: "cannot \(what): \(SystemError.text(errno))",
      remedy: SystemError.remedy(errno, writing: kind == .unwritable))
  }
}

extension FileError: CustomStringConvertible {
  /// "file.jsonl:7: what is wrong; what to do", on one line whatever the file held.
  public var description: String {
    let place = line.map { "\(path):\($0)" } ?? path
    return Plain.oneLine("\(place): \(cause)\(remedy.map { "; \($0)" } ?? "")")
  }
}
