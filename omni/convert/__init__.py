"""Foreign weights -> our folders: LLaMA-Omni, openai-whisper, fairseq's models, k-means.

    stream.py       a folder's tensors, mapped from their files and written in shards
    pickles.py      what a pickle may ask for: plain data comes in, code stays out
    torch_files.py  PyTorch's .pt files, zip and legacy, by torch.load
    llama_omni_format.py   LLaMA-Omni's names and settings, for llama_omni.py and omni/export.py
    llama_omni.py   whisper.py   vocoder.py   hubert.py   kmeans.py   one format each

Every conversion checks all names and shapes first, then writes its folder aside and renames it.
"""
