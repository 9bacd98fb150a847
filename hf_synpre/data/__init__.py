"""Data: a synthetic task or text -> rows of ids -> batches. The steps, and where they are:

1. Rows come from a synthetic task: `SyntheticDataset(task, size=...)` (synthetic.py) gives
   {input_ids, labels} without padding, `load_synthetic` the same rows as a Hugging Face dataset,
   and `build_shards(recipe, ...)` (shards.py) as the Parquet files of a published dataset.
   `RowsConfig` (rows.py) says which rows of a task these are.
2. Or they come from text: `open_corpus(name, text=TextSpec())` (corpora.py; text_spec.py) gives
   a `Corpus`, documents of a train and a validation split. Rows are read by `open_splits`
   (splits.py), documents by `folder_texts` (documents.py): folders.py says which files make a
   split, readers.py knows formats, separated.py quoting, text_files.py encodings and compression.
   stdlib.py is text that every machine has.
3. Text becomes ids: `train_tokenizer`, `train_encoder_tokenizer` or `read_tokenizer`
   (tokenizers.py) give a tokenizer, and `corpus_tokens(corpus, ...)` (token_files.py) the ids, from
   files that are made once (encoding.py says how) and mapped into memory. text_progress.py says
   how far long reading is; corpus_cache.py keeps a corpus' figures and its tokenizer between runs.
4. Ids become windows: `TextWindows`, `FullWindows` or `SentenceWindows`, and windows become rows of
   a model: `NextTokenDataset` or `EncoderRows` (windows.py).
5. The objective masks ids: `SpanCorruptionDataset`, `MaskedDataset`, `ReplacedRows` (masking.py).
6. Examples are laid out as rows with little padding: `LengthBuckets` and `RowDataset`, or
   `PackedDataset`, by a layout (buckets.py, packing.py).
7. Rows become a batch of tensors: `RowCollator`, `Seq2SeqCollator` or `LabelCollator`
   (collators.py).

Every dataset here is map-style: row i is a function of i, whatever the batch, the worker or the
process (rows.py). Nothing is imported here: torch and transformers only come with the modules that
need them.
"""
